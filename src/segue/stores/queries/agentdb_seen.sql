-- What a comparison has seen of one table: natural keys only, of this session alone.
CREATE TEMPORARY TABLE IF NOT EXISTS <<seen>> (natural_key UUID PRIMARY KEY)
