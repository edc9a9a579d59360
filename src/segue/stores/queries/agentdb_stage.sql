-- Where a batch lands first: of this session alone, emptied at every commit.
CREATE TEMPORARY TABLE IF NOT EXISTS <<staged>> ON COMMIT DELETE ROWS
AS SELECT <<columns>> FROM <<table>> WITH NO DATA
