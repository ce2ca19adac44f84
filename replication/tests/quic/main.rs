//! Links over real UDP sockets on the loopback interface.

/// Certificates, transports and what they logged.
mod harness;
/// Who gets no link (G17).
mod hostile;
/// Links come up, carry frames, and come back.
mod links;
