CASE
  WHEN n.<<vector>> IS NULL THEN null
  WHEN NOT n.<<vector>> IS :: LIST<FLOAT NOT NULL> | LIST<INTEGER NOT NULL> THEN valueType(n.<<vector>>)
  WHEN size(n.<<vector>>) <> <<dimension>> THEN size(n.<<vector>>)
  <<finite>>
  ELSE n.<<vector>>
END
