// Serves CouchDB's protocol from memory on loopback: node server.js <port>. Basic authentication is taken and not checked.
const express = require('express');
const PouchDB = require('pouchdb-core')
  .plugin(require('pouchdb-adapter-memory'))
  .plugin(require('pouchdb-mapreduce'))
  .plugin(require('pouchdb-find'));

const app = express();
app.disable('x-powered-by');
app.use(
  require('express-pouchdb')(PouchDB.defaults({ adapter: 'memory' }), {
    // The document and query routes alone; the full set brings a web interface, sessions and a log on disk.
    mode: 'custom',
    inMemoryConfig: true,
    overrideMode: {
      include: [
        'routes/root', 'routes/db', 'routes/all-dbs', 'routes/documents', 'routes/bulk-get', 'routes/bulk-docs',
        'routes/all-docs', 'routes/changes', 'routes/revs-diff', 'routes/find', 'routes/views', 'routes/404',
      ],
    },
  }),
);
app.listen(Number(process.argv[2]), '127.0.0.1');
