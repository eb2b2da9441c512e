import { render } from 'preact';
import './css/base.css';
import './css/shell.css';
import './css/parts.css';
import './css/list.css';
import './css/pages.css';
import { App } from './app';
import { startClock } from './clock';
import { startKeys } from './keys';
import { startRouter } from './router';
import { loadSession } from './session';
import { startStream } from './stream';

startRouter();
startClock();
startKeys();
startStream();
void loadSession();
render(<App />, document.body);
