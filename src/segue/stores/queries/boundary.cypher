// The key that ends a range of $items nodes or a few more, beginning behind a key; no row when fewer are left.
MATCH (n:<<label>>)
WHERE <<bounds>>
WITH n.<<key>> AS key ORDER BY key SKIP $items - 1
WHERE <<plain>>
RETURN key LIMIT 1
