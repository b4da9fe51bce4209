import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** Stands between a client and a server, counts what crosses, and can cut it. */
export interface Proxy {
  readonly port: number;
  /** Bytes that the server has sent, and that the client has. */
  readonly received: () => number;
  readonly sent: () => number;
  /** How many connections are open now. */
  readonly open: () => number;
  /** Cuts every connection that is open now. Returns how many there were. */
  readonly cut: () => number;
  readonly close: () => Promise<void>;
}

/** @param fatal what a client must not say: that ends its connection, and lets nobody in any more */
export async function openProxy(host: string, port: number, fatal?: string): Promise<Proxy> {
  const count = { received: 0, sent: 0 };
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    const server = connect(port, host);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    server.on('data', (chunk: Buffer) => {
      count.received += chunk.length;
    });
    client.on('data', (chunk: Buffer) => {
      if (fatal !== undefined && chunk.includes(fatal)) {
        listener.close();
        client.destroy();
      }
      count.sent += chunk.length;
    });
  });
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  const open = () => Math.ceil(sockets.size / 2);
  const cut = () => {
    const count = open();
    for (const socket of sockets) socket.destroy();
    return count;
  };
  return {
    port: (listener.address() as AddressInfo).port,
    received: () => count.received,
    sent: () => count.sent,
    open,
    cut,
    close: async () => {
      listener.close();
      cut();
      await once(listener, 'close');
    },
  };
}
