// Prints a YAML file as JSON, with what is merged (`<<`) in its place.
import fs from 'node:fs';
import {createRequire} from 'node:module';

const {parse} = createRequire(`${process.env.MODULES}/-`)('yaml');
console.log(JSON.stringify(parse(fs.readFileSync(process.env.FILE, 'utf8'), {merge: true})));
