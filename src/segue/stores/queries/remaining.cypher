// How many nodes lie behind a key.
MATCH (n:<<label>>)
WHERE <<bounds>>
RETURN count(*) AS remaining
