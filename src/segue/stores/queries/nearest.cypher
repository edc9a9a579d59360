// What the vector index finds near a vector, and how much that was before the conditions; one record.
CALL db.index.vector.queryNodes($index, $ask, $vector) YIELD node, score
RETURN count(*) AS seen, collect(CASE WHEN <<meets>> THEN [node.<<key>>, score<<properties>>] END) AS rows
