// Builds the page into ../page, which is in git: index.html, the bundle's script and style sheet, and the icon. The
// names of script and style sheet hold a hash of their contents, so browsers may keep them for ever.
//
//   node build.mjs            build, and print the sizes (PAGE=DIRECTORY: there)
//   node build.mjs --watch    build again whenever a source changes
//   node build.mjs --test     bundle test/*.test.ts and run them by node's test runner
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import * as esbuild from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const dist = process.env.PAGE ?? join(here, '../page');
const limit = 60_000;

// The page's only inline part is its markup: the server's Content-Security-Policy permits no inline script or style.
function writePage(result) {
    const names = Object.keys(result.metafile.outputs).map((name) => basename(name));
    const script = names.find((name) => /^app-.*\.js$/.test(name));
    const style = names.find((name) => /^app-.*\.css$/.test(name));
    const page = readFileSync(join(here, 'index.html'), 'utf8').replace('app.js', script).replace('app.css', style);
    for (const old of readdirSync(dist))
        if (/^app-.*\.(js|css)(\.map)?$/.test(old) && !names.includes(old)) rmSync(join(dist, old));
    writeFileSync(join(dist, 'index.html'), page);
}

function reportSizes() {
    let total = 0;
    for (const name of readdirSync(dist).filter((file) => !file.endsWith('.map'))) {
        const size = gzipSync(readFileSync(join(dist, name)), { level: 9 }).length;
        total += size;
        console.log(`${name.padEnd(20)} ${String(size).padStart(6)} bytes compressed`);
    }
    console.log(`${'all'.padEnd(20)} ${String(total).padStart(6)} of ${limit}`);
    if (total > limit) {
        console.error('the page has become too large');
        process.exitCode = 1;
    }
}

const options = {
    entryPoints: { app: join(here, 'src/main.tsx') },
    outdir: dist,
    entryNames: '[name]-[hash]',
    bundle: true,
    minify: true,
    metafile: true,
    format: 'esm',
    target: ['es2022'],
    jsx: 'automatic',
    jsxImportSource: 'preact',
    legalComments: 'none',
    logLevel: 'warning',
};

function runTests() {
    const out = join(here, 'build');
    const files = readdirSync(join(here, 'test')).filter((file) => file.endsWith('.test.ts'));
    rmSync(out, { recursive: true, force: true });
    esbuild.buildSync({
        entryPoints: files.map((file) => join(here, 'test', file)),
        outdir: out,
        outExtension: { '.js': '.mjs' },
        bundle: true,
        format: 'esm',
        platform: 'node',
        sourcemap: 'inline',
        logLevel: 'warning',
    });
    const bundles = files.map((file) => join(out, file.replace(/ts$/, 'mjs')));
    process.exit(
        spawnSync(process.execPath, ['--enable-source-maps', '--test', ...bundles], { stdio: 'inherit' }).status ?? 1,
    );
}

if (process.argv.includes('--test')) runTests();

mkdirSync(dist, { recursive: true });
cpSync(join(here, 'icon.svg'), join(dist, 'icon.svg'));
if (process.argv.includes('--watch')) {
    const write = {
        name: 'page',
        setup: (build) => build.onEnd((result) => result.errors.length || writePage(result)),
    };
    const context = await esbuild.context({ ...options, minify: false, sourcemap: true, plugins: [write] });
    await context.watch();
    console.log('watching');
} else {
    rmSync(dist, { recursive: true });
    mkdirSync(dist);
    cpSync(join(here, 'icon.svg'), join(dist, 'icon.svg'));
    writePage(await esbuild.build(options));
    reportSizes();
}
