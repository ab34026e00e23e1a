CREATE TABLE postage (country TEXT NOT NULL, grams INTEGER NOT NULL, cents INTEGER NOT NULL);
INSERT INTO postage VALUES
  ('SE', 500, 390), ('SE', 2000, 690), ('SE', 20000, 1490),
  ('DE', 500, 890), ('DE', 2000, 1290),
  ('JP', 500, 1990);
