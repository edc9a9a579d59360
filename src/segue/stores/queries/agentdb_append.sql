-- New elements of a history; those whose name is taken by an equal one are left out, for another name.
INSERT INTO <<table>> (<<columns>>)
SELECT <<columns>> FROM <<staged>> ORDER BY natural_key
ON CONFLICT DO NOTHING
RETURNING natural_key
