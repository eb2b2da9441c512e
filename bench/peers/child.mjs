// A process that works for a peer queue. Its parent tells it when to start and to stop; it
// tells its parent how many jobs have started, every hundredth of a second.

const queue = await import(`./${process.argv[2]}.mjs`);
const now = () => performance.timeOrigin + performance.now();
let worker, ticker, done = 0, first = null, starts = null;

function tell() {
    process.send({ kind: 'progress', done, first });
}

process.on('message', async (message) => {
    if (message.kind === 'start') {
        done = 0;
        first = null;
        starts = message.keepStarts ? [] : null;
        ticker = setInterval(tell, 10);
        worker = await queue.start({
            ...message.options,
            onJob(n) {
                if (done++ === 0) first = now();
                if (starts) starts.push([n, now()]);
            },
        });
        process.send({ kind: 'started' });
    } else if (message.kind === 'stop') {
        await worker.stop();
        const at = now();
        clearInterval(ticker);
        tell();
        await worker.end();
        process.send({ kind: 'stopped', at, starts });
    } else {
        process.exit(0);
    }
});
process.on('disconnect', () => process.exit(0));
process.send({ kind: 'ready' });
