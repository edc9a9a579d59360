// Runs within every writer's transaction, before it commits: marks the keys whose item the transaction touches.
// The collection's name and the properties are written in when the trigger is installed; nothing is a parameter but APOC's own.
WITH [n IN coalesce($createdNodes, []) WHERE n:<<label>> | n.<<key>>]
   + [n IN coalesce($createdNodes, []) WHERE n:SegueCanary AND n.collection = <<collection>> | n.key]
   + [n IN coalesce($assignedLabels[<<label_name>>], []) | n.<<key>>]
   + [n IN coalesce($removedLabels[<<label_name>>], []) WHERE NOT n IN coalesce($deletedNodes, []) | n.<<key>>]
   + [e IN coalesce($assignedNodeProperties[<<key_name>>], []) WHERE e.node:<<label>> | e.old]
   + [e IN coalesce($removedNodeProperties[<<key_name>>], [])
      WHERE size(coalesce($removedLabels[<<label_name>>], [])) > 0 OR NOT e.node IN coalesce($deletedNodes, []) | e.old]
   + reduce(found = [], p IN [<<carried_names>>] | found
       + [e IN coalesce($assignedNodeProperties[p], []) WHERE e.node:<<label>> | e.node.<<key>>]
       + [e IN coalesce($removedNodeProperties[p], [])
          WHERE NOT e.node IN coalesce($deletedNodes, []) AND e.node:<<label>> | e.node.<<key>>])
   AS touched
UNWIND touched AS key
WITH DISTINCT key WHERE key IS :: <<type>> NOT NULL
WITH key ORDER BY key
MERGE (m:SegueMark {collection: <<collection>>, key: key})
  ON CREATE SET m.part = toInteger(rand() * <<partitions>>), m.ver = '', m.acked = '', m.marked_at = timestamp()
SET m:SegueOpen,
    m.marked_at = CASE WHEN m.ver = m.acked THEN timestamp() ELSE m.marked_at END,
    m.ver = randomUUID()
