// The key of every node of a label within an interval. A pass over the label itself, which no index over the key serves.
MATCH (n:<<label>>) USING SCAN n:<<label>>
WHERE <<bounds>>
RETURN collect(n.<<key>>) AS keys
