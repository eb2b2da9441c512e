// The program's description of its API is a valid OpenAPI 3.1 document. Prints TAP.
import { execFileSync } from 'node:child_process';
import { Validator } from '@seriousme/openapi-schema-validator';

const document = JSON.parse(execFileSync(process.env.BACKFILL_WEB, ['--openapi'], { encoding: 'utf8' }));
const validator = new Validator();
const result = await validator.validate(document);
const isValid = result.valid && validator.version === '3.1';
console.log(`${isValid ? 'ok' : 'not ok'} 1 - the description is a valid OpenAPI 3.1 document`);
if (!isValid) console.log(`# version ${validator.version}: ${JSON.stringify(result.errors).slice(0, 2000)}`);

// Every parameter of a path is described, once, and nothing else is said to be in the path.
let wrong = '';
for (const [path, methods] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(methods)) {
        const inPath = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path').map((parameter) => parameter.name);
        const named = [...path.matchAll(/\{([^}]+)\}/g)].map((found) => found[1]);
        if (inPath.sort().join() !== named.sort().join()) wrong += ` ${method} ${path}`;
    }
console.log(`${wrong ? 'not ok' : 'ok'} 2 - the parameters of the paths are described${wrong && `, but not those of${wrong}`}`);

const ids = Object.values(document.paths).flatMap((methods) => Object.values(methods).map((operation) => operation.operationId));
const isUnique = new Set(ids).size === ids.length;
console.log(`${isUnique ? 'ok' : 'not ok'} 3 - no two operations have the same id`);
console.log('1..3');
process.exitCode = isValid && !wrong && isUnique ? 0 : 1;
