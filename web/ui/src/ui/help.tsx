import { helpOpen, pages } from '../keys';
import { may } from '../session';
import { Dialog } from './dialog';

export function Help() {
    const rows: [string[], string][] = [
        [['/'], 'find a job, task, queue or page (Ctrl K, too)'],
        [['j', 'k'], 'next and previous row'],
        [['Enter'], 'open the row'],
        [['x'], 'select the row'],
        [['Esc'], 'close a dialog'],
        [['?'], 'this help'],
        ...pages.filter((page) => may(page.right)).map((page): [string[], string] => [['g', page.key], page.name]),
    ];
    return (
        <Dialog title="Keyboard" onClose={() => (helpOpen.value = false)} class="dialog-small">
            <dl class="keys dialog-body">
                {rows.map(([keys, text]) => (
                    <div key={text}>
                        <dt>
                            {keys.map((key) => (
                                <kbd key={key}>{key}</kbd>
                            ))}
                        </dt>
                        <dd>{text}</dd>
                    </div>
                ))}
            </dl>
        </Dialog>
    );
}
