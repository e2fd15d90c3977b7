//! Reads a message from a file or from standard input and prints what it is made of:
//! `cargo run --example parse -- message.sip`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::Read;

use sipora_message::{Limits, Message};

fn main() -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    match std::env::args().nth(1) {
        Some(path) => bytes = std::fs::read(path)?,
        None => drop(std::io::stdin().read_to_end(&mut bytes)?),
    }
    let message = Message::parse(bytes, &Limits::default())?;
    match &message {
        Message::Request(request) => {
            println!("request  {} {}", request.method(), request.uri_text())
        }
        Message::Response(response) => {
            println!("response {} {}", response.status(), response.reason())
        }
    }
    match message.check() {
        Ok(()) => println!("check    sound"),
        Err(rejection) => println!("check    {rejection}"),
    }
    let headers = message.headers();
    for header in headers.iter() {
        println!("header   {}: {}", header.name(), header.text());
    }
    for via in headers.vias() {
        let via = via?;
        println!(
            "via      {} {} branch {}",
            via.transport(),
            via.host(),
            via.branch().unwrap_or("-")
        );
    }
    println!("from     {}", headers.from()?.uri());
    println!("to       {}", headers.to()?.uri());
    for contact in headers.contacts()?.as_slice() {
        println!("contact  {}", contact.uri());
    }
    println!("body     {} bytes", message.body().len());
    Ok(())
}
