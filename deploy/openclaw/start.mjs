// Starts OpenClaw in a container: makes its configuration at the very first start, and lets the gateway reach it.
//
// OpenClaw gives the administration channel, which makes people's agents, its scopes only when it comes from loopback
// (seen with 2026.9.6). So it listens there, and what reaches OPENCLAW_LISTEN is passed on to it byte for byte. Whoever can
// reach that address can name any user: it must be in a network with nobody but the gateways.

import {spawn} from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import {pipeline} from 'node:stream';

function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

const home = setting('OPENCLAW_HOME_DIR');
const config = path.join(home, 'openclaw.json');
for (const below of ['home', 'state', 'workspace']) fs.mkdirSync(path.join(home, below), {recursive: true, mode: 0o700});

// Later it is changed by OpenClaw alone, which throws away what is put in its place.
if (!fs.existsSync(config)) {
  const template = JSON.parse(fs.readFileSync(setting('OPENCLAW_TEMPLATE'), 'utf8'));
  const [password] = fs.readFileSync(setting('OPENCLAW_PASSWORD_FILE'), 'utf8').split('\n');
  if (!password) throw new Error('the first line of OPENCLAW_PASSWORD_FILE is empty');
  template.gateway.auth.password = password;
  if (process.env.OPENCLAW_PORT) template.gateway.port = Number(process.env.OPENCLAW_PORT);
  // The default log is one file per host, which can be read through OpenClaw.
  template.logging = {file: path.join(home, 'openclaw.log')};
  template.agents.defaults.workspace = path.join(home, 'workspace');
  fs.writeFileSync(`${config}.draft`, JSON.stringify(template, null, 2), {mode: 0o600});
  fs.renameSync(`${config}.draft`, config);
}
const {port} = JSON.parse(fs.readFileSync(config, 'utf8')).gateway;

const openclaw = spawn(process.execPath, [setting('OPENCLAW_MODULE'), 'gateway', 'run'], {
  stdio: 'inherit',
  env: {
    PATH: process.env.PATH,
    HOME: path.join(home, 'home'),
    NO_COLOR: '1',
    DO_NOT_TRACK: '1',
    OPENCLAW_STATE_DIR: path.join(home, 'state'),
    OPENCLAW_CONFIG_PATH: config,
    OPENCLAW_DISABLE_BONJOUR: '1',
    OPENCLAW_EXEC_SHELL_SNAPSHOT: '0',
    OPENCLAW_NO_AUTO_UPDATE: '1',
    OPENCLAW_NO_RESPAWN: '1',
    OPENCLAW_SKIP_CHANNELS: '1',
  },
});
openclaw.on('error', (error) => {
  console.error(`OpenClaw was not started: ${error.message}`);
  process.exit(1);
});
openclaw.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGTERM' ? 0 : 1)));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => openclaw.kill(signal));

const [host, listen] = setting('OPENCLAW_LISTEN').split(':');
const relay = net.createServer({allowHalfOpen: true, noDelay: true}, (client) => {
  const instance = net.connect({host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true});
  // Until OpenClaw listens connections end here, which the gateway knows as an instance that is starting. An error on one
  // side ends the other.
  const end = (error) => {
    if (!error) return;
    client.destroy();
    instance.destroy();
  };
  pipeline(client, instance, end);
  pipeline(instance, client, end);
});
relay.on('error', (error) => {
  console.error(`${host}:${listen}: ${error.message}`);
  openclaw.kill('SIGTERM');
});
relay.listen(Number(listen), host);
