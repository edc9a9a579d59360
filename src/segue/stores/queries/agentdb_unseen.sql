-- The next rows from these logical databases that a comparison has not seen in Redis, behind a natural key.
SELECT h.natural_key, h.source_db, h.source_key FROM <<table>> h
WHERE h.source_key IS NOT NULL AND h.source_db = ANY(%s) AND h.natural_key > %s
    AND NOT EXISTS (SELECT 1 FROM <<seen>> s WHERE s.natural_key = h.natural_key)
ORDER BY h.natural_key LIMIT %s
