// A phone made of JsSIP. Its one argument is JSON:
//   packages  folder with node_modules
//   server    ws: or wss: URL
//   uri, password    who it is
//   to, say   whom to send a text once it is registered; may be missing
//   answer    the text to send to whoever writes; may be missing
// Says in a line each what happens, and unregisters on SIGTERM.
import { createRequire } from 'node:module';

const settings = JSON.parse(process.argv[2]);
const require = createRequire(`${settings.packages}/`);
globalThis.WebSocket = require('ws');
const JsSIP = require('jssip');

const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(settings.server)],
  uri: settings.uri,
  password: settings.password,
  register_expires: 60,
  session_timers: false,
});

function send(to, text) {
  phone.sendMessage(to, text, {
    eventHandlers: {
      succeeded: ({ response }) => console.log(`sent: ${response.status_code}`),
      failed: ({ cause }) => console.log(`not sent: ${cause}`),
    },
  });
}

phone.on('registered', () => {
  console.log(`registered as ${phone.contact.uri}`);
  if (settings.to) send(settings.to, settings.say);
  settings.to = undefined;
});
phone.on('registrationFailed', ({ cause }) => console.log(`not registered: ${cause}`));
phone.on('disconnected', ({ error }) => console.log(`disconnected, by ${error ? 'an error' : 'wish'}`));
phone.on('newMessage', ({ originator, request }) => {
  if (originator !== 'remote') return;
  console.log(`message from ${request.from.uri}: ${request.body}`);
  // JsSIP answers 200 when this returns.
  if (settings.answer) setImmediate(send, request.from.uri.toString(), settings.answer);
});
process.on('SIGTERM', () => {
  phone.on('unregistered', () => {
    console.log('unregistered');
    process.exit(0);
  });
  phone.unregister();
});
phone.start();
