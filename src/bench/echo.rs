//! What asking and answering cost on this machine, over the same kind of socket, when nothing is done in between.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};

use mio::net::UnixListener;
use mio::{Events, Interest, Poll, Token, Waker};

const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

/// One client's: a thread that blocks. It ends with the connection.
pub fn alone() -> io::Result<UnixStream> {
    let (client, mut server) = UnixStream::pair()?;
    thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = server.read(&mut buf) {
            let Some(read) = buf.get(..n) else { break };
            if server.write_all(read).is_err() {
                break;
            }
        }
    });
    Ok(client)
}

/// Many clients': one thread with an event loop, what comes in goes out. Dropping it ends the thread.
#[derive(Debug)]
pub struct Echo {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens at `path`, where there is nothing yet.
    pub fn start(path: &Path) -> io::Result<Echo> {
        let mut listener = UnixListener::bind(path)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), STOP)?;
        // An error of its own ends it; whoever measures finds the connection broken.
        let thread = Some(thread::spawn(move || drop(serve(poll, &listener))));
        Ok(Echo { waker, thread })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if self.waker.wake().is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn serve(mut poll: Poll, listener: &UnixListener) -> io::Result<()> {
    let (mut events, mut clients, mut buf) = (Events::with_capacity(256), Vec::new(), [0; 4096]);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                STOP => return Ok(()),
                LISTENER => {
                    while let Ok((mut client, _)) = listener.accept() {
                        poll.registry().register(&mut client, Token(clients.len()), Interest::READABLE)?;
                        clients.push(Some(client));
                    }
                }
                Token(at) => {
                    let Some(slot) = clients.get_mut(at) else { continue };
                    while let Some(client) = slot {
                        match client.read(&mut buf) {
                            Ok(0) => *slot = None,
                            Ok(n) => client.write_all(buf.get(..n).unwrap_or_default())?,
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            Err(_) => *slot = None,
                        }
                    }
                }
            }
        }
    }
}
