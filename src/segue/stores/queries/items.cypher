// The items under some keys as they are now; a row is as in a page, and a key without an item has none.
UNWIND $keys AS key
MATCH (n:<<label>> {<<key>>: key}) <<typed>>
RETURN collect([key, elementId(n), <<vector>><<properties>>]) AS rows
