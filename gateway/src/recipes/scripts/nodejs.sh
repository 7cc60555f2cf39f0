# Node.js: into /node_modules, which is found by walking up from an action's folder. NODE_PATH wouldn't reach an action.
has node && has npm || unsupported 'the base has no node and npm on its path; use a Node.js runtime that has both.'

# The requirements join what the base already has, which npm would otherwise remove as extraneous. Scripts and
# devDependencies are left out: they belong to sources that aren't here.
cat >"$work/merge.js" <<'JS'
const fs = require('fs');
const sections = ['dependencies', 'optionalDependencies', 'peerDependencies'];
const read = (path) => JSON.parse(fs.readFileSync(path, 'utf8'));
const list = (folder) => (fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => !name.startsWith('.')) : []);

process.on('uncaughtException', (error) => { console.error(error.message); process.exit(1); });
const wanted = read(process.argv[2]);
if (wanted === null || typeof wanted !== 'object' || Array.isArray(wanted)) throw new Error('not an object');

const base = fs.existsSync('/package.json') ? read('/package.json') : { dependencies: present() };
for (const section of sections) {
  for (const [name, version] of Object.entries(wanted[section] || {})) {
    for (const other of [...sections, 'devDependencies']) delete (base[other] || {})[name];
    base[section] = { ...base[section], [name]: version };
  }
}
if (wanted.overrides) base.overrides = { ...base.overrides, ...wanted.overrides };
// Without a name npm takes the folder's, which is empty for /, and fails.
base.name = base.name || 'base';
fs.writeFileSync('/package.json', JSON.stringify(base, null, 2) + '\n');

// The modules of a base that has them without a package.json, as they are.
function present() {
  const names = list('/node_modules').flatMap((name) =>
    name.startsWith('@') ? list(`/node_modules/${name}`).map((inner) => `${name}/${inner}`) : [name]);
  return Object.fromEntries(names.map((name) => [name, read(`/node_modules/${name}/package.json`).version]));
}
JS
node "$work/merge.js" "$file" || invalid 'package.json is not a JSON object; mend the file and send it again.'

cd /
npm install --no-audit --no-fund --no-update-notifier --no-progress --logs-max=0
