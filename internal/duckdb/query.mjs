// Runs the SQL statement in the first argument in an in-memory DuckDB and
// prints the rows, one JSON array a line.
import { DuckDBInstance } from '@duckdb/node-api';

const connection = await (await DuckDBInstance.create(':memory:')).connect();
const rows = await (await connection.runAndReadAll(process.argv[2])).getRowsJson();
for (const row of rows) console.log(JSON.stringify(row));
