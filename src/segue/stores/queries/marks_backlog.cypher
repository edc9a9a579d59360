// How many marks readers look at, how many are dirty, tainted, and how long the oldest dirty one waits, in milliseconds.
MATCH (m:SegueOpen {collection: $collection})
RETURN count(*) AS open,
       sum(CASE WHEN m.ver <> m.acked THEN 1 ELSE 0 END) AS dirty,
       sum(CASE WHEN m.taint_until IS NOT NULL THEN 1 ELSE 0 END) AS tainted,
       coalesce(max(CASE WHEN m.ver <> m.acked THEN timestamp() - m.marked_at END), 0) AS oldest
