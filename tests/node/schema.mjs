// Prints, as JSON, what a JSON schema has against each of the documents in a JSON list; nothing: an empty list. `SCHEMA` and
// `DOCUMENTS` are the files that they are in.
import fs from 'node:fs';
import {createRequire} from 'node:module';

const {default: Ajv} = createRequire(`${process.env.MODULES}/-`)('ajv');
const read = (file) => JSON.parse(fs.readFileSync(file, 'utf8'));
// A schema may name its dialect by another URL than JSON Schema itself does; it is draft 7, as ajv takes it unless told.
const {$schema, ...schema} = read(process.env.SCHEMA);
if (!$schema.includes('draft-07')) throw new Error(`${$schema} is another dialect`);
const validate = new Ajv({allErrors: true, strict: false, validateFormats: false}).compile(schema);
const wrong = (document) => (validate(document) ? [] : validate.errors.map(({instancePath, message, params}) => `${instancePath} ${message} ${JSON.stringify(params)}`));
console.log(JSON.stringify(read(process.env.DOCUMENTS).map(wrong)));
