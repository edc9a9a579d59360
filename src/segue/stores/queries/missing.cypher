// Those of some keys that no node has.
UNWIND $keys AS key
WITH key WHERE NOT EXISTS { MATCH (n:<<label>> {<<key>>: key}) <<typed>> }
RETURN key
