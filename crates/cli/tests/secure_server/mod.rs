//! A running `sipora serve` with a listener of every transport, and the authority whose certificate it shows.

#![allow(dead_code)] // each test file uses its own part

#[path = "../../../sip-transport/tests/authority/mod.rs"]
pub mod authority;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sipora_transport::Pem;

use crate::common::{DOMAIN, Server, listener, password_of, sipora, write};
use authority::Authority;

/// A server of [`DOMAIN`] that is reached over UDP, TCP, TLS, WS and WSS, each on a free port.
pub struct SecureServer {
    pub server: Server,
    pub authority: Authority,
    pub tls: SocketAddr,
    pub ws: SocketAddr,
    pub wss: SocketAddr,
    /// The root to believe the server by.
    pub root: PathBuf,
    /// What the server shows; the root issued it, for 127.0.0.1 and localhost if nothing else is said.
    pub certificate: PathBuf,
}

impl SecureServer {
    /// Serves these users; the password of each is [`password_of`] it.
    pub fn start<'a>(users: impl IntoIterator<Item = &'a str>) -> SecureServer {
        SecureServer::start_with(users, "", &[])
    }

    /// As [`SecureServer::start`], with a configuration file and further arguments.
    pub fn start_with<'a>(
        users: impl IntoIterator<Item = &'a str>,
        configuration: &str,
        arguments: &[&str],
    ) -> SecureServer {
        SecureServer::start_as(&[DOMAIN, "localhost"], users, configuration, arguments)
    }

    /// Serves nobody in particular, with a certificate for this name.
    pub fn start_named(name: &str, arguments: &[&str]) -> SecureServer {
        SecureServer::start_as(&[name], [], "", arguments)
    }

    fn start_as<'a>(
        names: &[&str],
        users: impl IntoIterator<Item = &'a str>,
        configuration: &str,
        arguments: &[&str],
    ) -> SecureServer {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let Pem::Bytes(root) = authority.pem() else {
            panic!("an authority of bytes")
        };
        let (certificate, key) = authority.issue(names);
        let root = write(files.path(), "ca.pem", std::str::from_utf8(&root).unwrap());
        let certificate = write(files.path(), "cert.pem", &certificate);
        let key = write(files.path(), "key.pem", &key);
        let listen = ["tls:127.0.0.1:0", "ws:127.0.0.1:0", "wss:127.0.0.1:0"];
        let mut all: Vec<&str> = listen.into_iter().flat_map(|at| ["--listen", at]).collect();
        let named = [
            ("--tls-cert", &certificate),
            ("--tls-key", &key),
            ("--tls-ca", &root),
        ];
        for (flag, path) in named {
            all.extend([flag, path.to_str().unwrap()]);
        }
        all.extend(arguments);
        let server = Server::start_with(users, configuration, &all);
        // They live as long as the server.
        let kept = |path: PathBuf| {
            let to = server.files.path().join(path.file_name().unwrap());
            std::fs::copy(path, &to).unwrap();
            to
        };
        SecureServer {
            tls: listener(&server.process, "tls"),
            ws: listener(&server.process, "ws"),
            wss: listener(&server.process, "wss"),
            root: kept(root),
            certificate: kept(certificate),
            authority,
            server,
        }
    }

    /// Writes what a client shows that is `name`: certificate and key.
    pub fn client_certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.authority.issue(&[name]);
        let files = self.server.files.path();
        (
            write(files, "client.pem", &certificate),
            write(files, "client.key", &key),
        )
    }

    /// The contacts that the registrar has for a user, as it tells whoever knows the password.
    pub fn bindings(&self, user: &str) -> Vec<String> {
        bindings(&self.server, user)
    }
}

/// The contacts that the registrar has for a user, as it tells whoever knows the password.
pub fn bindings(server: &Server, user: &str) -> Vec<String> {
    let password = password_file(server, user);
    let uri = format!("sip:{user}@{}", server.udp);
    let outcome = sipora([
        "register",
        &uri,
        "--query",
        "--json",
        "--password-file",
        password.to_str().unwrap(),
    ]);
    assert_eq!(outcome.code(), 0, "{outcome}");
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let bindings = answer["bindings"]
        .as_array()
        .expect("a list, even if empty");
    let uris = bindings.iter().map(|binding| binding["uri"].as_str());
    uris.map(|uri| uri.unwrap().to_owned()).collect()
}

/// A file with the password of a user.
pub fn password_file(server: &Server, user: &str) -> PathBuf {
    let name = format!("{user}.password");
    write(Path::new(server.files.path()), &name, &password_of(user))
}
