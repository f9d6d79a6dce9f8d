// dynamo.js runs dynalite, a DynamoDB look-alike, on a free port, which it
// prints, until its standard input ends.
'use strict';

const dynalite = require('dynalite');

const server = dynalite({ createTableMs: 0, updateTableMs: 0, deleteTableMs: 0 });
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
