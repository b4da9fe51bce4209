import { logger } from '../base/logger.js';
import { counted } from '../base/text-table.js';
import { Relay, type Told } from '../events/relay.js';
import { runPart } from '../services/run.js';
import { defineCommand, flag, serviceOption } from './command.js';

const report = ({ subscription, events }: Told) => `${subscription}: told of ${counted(events, 'event')}`;

export const command = defineCommand(
  {
    examples: {
      relay: 'Tell each subscription of what it has not been told',
      'relay --watch': 'The same until interrupted',
    },
    options: {
      watch: flag('Go on until interrupted, every EVENT_INTERVAL_SECONDS'),
      service: serviceOption('relay'),
    },
    epilogue:
      'Of several relays one is at work, and the others stand by. A subscription that cannot be told holds up no other: "tidemark events status" says why. docs/events.md has every failure\'s remedy.',
  },
  async ({ watch = false, service = false }, { settings, print }) => {
    const interval = watch ? settings.event_interval_seconds : undefined;
    const relay = new Relay(settings, interval);
    await runPart<Told>(
      settings,
      { name: 'relay', service: service ? 'relay' : undefined, greeting: 'Starting relay', interval },
      (signal) => relay.round(signal),
      (told, error) => {
        const words = told.length === 0 ? 'no subscription has to be told of anything' : told.map(report).join('\n');
        if (service) for (const each of told) logger.info(report(each));
        else if (!watch || told.length > 0) print(told, words, error);
      },
    ).finally(() => relay.close());
  },
);
