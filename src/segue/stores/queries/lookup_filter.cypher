// Every item that meets the conditions.
MATCH (node:<<label>>)
WHERE <<meets>>
RETURN node.<<key>>, node.<<vector>><<properties>>
