// One vector index: its state, how much of it is built, and the statement that makes it anew.
SHOW VECTOR INDEXES YIELD name, state, populationPercent, createStatement
WHERE name = $index
RETURN state, populationPercent AS percent, createStatement AS statement
