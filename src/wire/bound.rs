//! A port that is bound before the engine is ready to answer on it. Another program may bind it too as long as neither
//! listens; the first to listen has it, and the other is told so by [`Bound::listen`].

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A bound port that nobody listens on yet: a caller is refused at once and can stand in, where one that listened
/// without answering would let it wait for its whole deadline.
pub struct Bound(rustix::fd::OwnedFd);

impl Bound {
    /// # Errors
    /// Where the port is taken or the address is not this machine's.
    pub fn new(address: SocketAddr) -> io::Result<Bound> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // As the standard library does: what a server before left in TIME_WAIT is no hindrance.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &address)?;
        Ok(Bound(socket))
    }

    /// Of a port that is listened on already, for whoever is ready in no time.
    pub fn listening(listener: TcpListener) -> Bound {
        Bound(listener.into())
    }

    /// The address with the port that port 0 became.
    ///
    /// # Errors
    /// Where the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::try_from(net::getsockname(&self.0)?)?)
    }

    /// Takes connections from now on; one that listens already goes on.
    ///
    /// # Errors
    /// Where another program listened on the port in the meantime.
    pub fn listen(self) -> io::Result<TcpListener> {
        net::listen(&self.0, BACKLOG)?;
        Ok(TcpListener::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_caller_is_refused_until_the_engine_listens() {
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.local_addr().unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = bound.listen().unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        TcpStream::connect(address).unwrap();
        assert_eq!(Bound::new(address).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }
}
