// The items under some keys; a key without an item has no record.
UNWIND $keys AS key
MATCH (node:<<label>> {<<key>>: key})
RETURN node.<<key>>, node.<<vector>><<properties>>
