//! One output stream on its way from a guest into its file, shown to those who watch it.
//!
//! Bytes are acknowledged to the guest once they are in the file: from then on they survive the daemon. They are made
//! durable before the end of their command or shell is recorded, so the record never names bytes that a power cut can
//! take.

use std::sync::Arc;

use pyro_core::{StreamSummary, WorkspaceId};
use pyro_store::outputs::{OutputError, OutputWriter, StreamId};

use crate::clock;
use crate::context::Context;
use crate::streams::LiveStream;

/// The only writer of a stream.
pub(crate) struct Sink {
    context: Arc<Context>,
    workspace: WorkspaceId,
    stream: StreamId,
    live: Arc<LiveStream>,
    /// `None` as long as nothing was written.
    writer: Option<OutputWriter>,
}

impl Sink {
    pub(crate) fn new(context: &Arc<Context>, workspace: WorkspaceId, stream: StreamId) -> Self {
        let live = context.streams.of(workspace, stream);
        Self { context: Arc::clone(context), workspace, stream, live, writer: None }
    }

    /// Opens what an earlier daemon has stored and returns its length; 0 when there is nothing.
    pub(crate) fn resume(&mut self) -> Result<u64, OutputError> {
        if self.writer.is_none() {
            let file = self.context.outputs.read(self.workspace, self.stream)?;
            if file.len_bytes()? == 0 {
                return Ok(0);
            }
            let writer =
                tokio::task::block_in_place(|| self.context.outputs.resume(self.workspace, self.stream))?;
            self.live.set_file(file);
            self.live.grow_to(writer.len_bytes());
            self.writer = Some(writer);
        }
        Ok(self.len_bytes())
    }

    /// Returns how many bytes were stored or resumed.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, OutputWriter::len_bytes)
    }

    /// Puts bytes into the file and returns the position behind them.
    pub(crate) fn store(&mut self, offset: u64, data: &[u8]) -> Result<u64, OutputError> {
        // The page cache takes them at once; the disk is waited for at the end.
        tokio::task::block_in_place(|| {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                None => {
                    // An earlier daemon may have made the file and died before the first byte.
                    let writer = self.context.outputs.resume(self.workspace, self.stream)?;
                    self.live.set_file(self.context.outputs.read(self.workspace, self.stream)?);
                    self.writer.insert(writer)
                }
            };
            let len = writer.append(offset, data, clock::now())?;
            self.live.grow_to(len);
            Ok(len)
        })
    }

    /// Makes the stream durable; one that nobody wrote to is an empty one.
    pub(crate) fn finish(&mut self) -> Result<StreamSummary, OutputError> {
        match self.writer.take() {
            Some(writer) => tokio::task::block_in_place(|| writer.finish()),
            None => Ok(StreamSummary { len_bytes: 0, digest: *blake3::hash(b"").as_bytes() }),
        }
    }
}

/// Returns what an earlier daemon stored of a stream whose guest is gone; `None` when that is nothing or cannot be read.
pub(crate) fn stored(context: &Context, workspace: WorkspaceId, stream: StreamId) -> Option<StreamSummary> {
    let summary = tokio::task::block_in_place(|| context.outputs.summary(workspace, stream));
    summary.unwrap_or_else(|error| {
        tracing::error!(%workspace, %stream, %error, "failed to read stored output");
        None
    })
}
