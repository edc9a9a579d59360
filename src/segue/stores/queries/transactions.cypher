// Transactions of this database that are open now, but for this one.
SHOW TRANSACTIONS YIELD transactionId, database, currentQuery, startTime
WHERE database = $database AND NOT coalesce(currentQuery, '') STARTS WITH '// Transactions of this database'
RETURN transactionId
