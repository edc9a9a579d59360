-- Whether batches of a range may be on their way. Found set after a crash, requests of before it may still land.
ALTER TABLE range ADD COLUMN in_flight INTEGER NOT NULL DEFAULT 0;
