// Prints, as JSON, what a JSON schema has against each of the documents of a YAML or JSON file; nothing: an empty list.
// `DOCUMENTS` is a JSON list of documents.
import fs from 'node:fs';
import {createRequire} from 'node:module';

const {default: Ajv} = createRequire(`${process.env.MODULES}/-`)('ajv');
// The schema names its dialect by another URL than JSON Schema itself does; it is draft 7, as ajv takes it unless told.
const {$schema, ...schema} = JSON.parse(fs.readFileSync(process.env.SCHEMA, 'utf8'));
if (!$schema.includes('draft-07')) throw new Error(`${$schema} is another dialect`);
const validate = new Ajv({allErrors: true, strict: false, validateFormats: false}).compile(schema);
const wrong = (document) => (validate(document) ? [] : validate.errors.map(({instancePath, message, params}) => `${instancePath} ${message} ${JSON.stringify(params)}`));
console.log(JSON.stringify(JSON.parse(process.env.DOCUMENTS).map(wrong)));
