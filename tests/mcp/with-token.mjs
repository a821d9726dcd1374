// The conformance suite knows no tokens: every request of its process gets the one that is in the environment.
import diagnostics from 'node:diagnostics_channel';

diagnostics.channel('undici:request:create').subscribe(({ request }) => {
  request.addHeader('authorization', `Bearer ${process.env.PYRO_MCP_TOKEN}`);
});
