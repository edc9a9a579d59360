// The key that ends a range of $items nodes beginning behind a key; no row when fewer are left.
MATCH (n:<<label>>)
WHERE <<bounds>>
RETURN n.<<key>> AS key ORDER BY key SKIP $items - 1 LIMIT 1
