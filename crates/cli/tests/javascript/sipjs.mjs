// A phone made of SIP.js, with the arguments and the words of jssip.mjs.
import { createRequire } from 'node:module';

const settings = JSON.parse(process.argv[2]);
const require = createRequire(`${settings.packages}/`);
globalThis.WebSocket = require('ws');
const { Messager, Registerer, RegistererState, UserAgent } = await import(require.resolve('sip.js'));

const uri = UserAgent.makeURI(settings.uri);
const phone = new UserAgent({
  uri,
  authorizationUsername: uri.user,
  authorizationPassword: settings.password,
  transportOptions: { server: settings.server },
  logLevel: 'warn',
  delegate: {
    onDisconnect: (error) => console.log(`disconnected, by ${error ? 'an error' : 'wish'}`),
    onMessage: async (message) => {
      await message.accept();
      const from = message.request.from.uri;
      console.log(`message from ${from}: ${message.request.body}`);
      if (settings.answer) send(from, settings.answer);
    },
  },
});

function send(to, text) {
  new Messager(phone, to, text).message({
    requestDelegate: {
      onAccept: ({ message }) => console.log(`sent: ${message.statusCode}`),
      onReject: ({ message }) => console.log(`not sent: ${message.statusCode}`),
    },
  });
}

await phone.start();
let wasRegistered = false;
const registerer = new Registerer(phone, { expires: 60 });
registerer.stateChange.addListener((state) => {
  if (state === RegistererState.Registered) {
    wasRegistered = true;
    console.log(`registered as ${phone.contact.uri}`);
    if (settings.to) send(UserAgent.makeURI(settings.to), settings.say);
    settings.to = undefined;
  }
  // It takes this state too where it never got in.
  if (state === RegistererState.Unregistered && wasRegistered) {
    console.log('unregistered');
    process.exit(0);
  }
});
process.on('SIGTERM', () => registerer.unregister());
await registerer.register({
  requestDelegate: { onReject: ({ message }) => console.log(`not registered: ${message.statusCode}`) },
});
