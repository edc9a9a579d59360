-- The mode, where PostgreSQL is written first, or a way back to Redis is not complete. To be read under the lock of writers.
SELECT mode FROM segue_agentdb_control WHERE mode = 'postgres' OR NOT open
