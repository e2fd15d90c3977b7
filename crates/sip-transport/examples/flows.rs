//! A server that answers OPTIONS with 200, and a client that asks it over UDP and over TCP: flows, and nothing above them.
#![allow(clippy::print_stdout)]

use sipora_message::{Message, Method, Request, Response, StatusCode, Uri};
use sipora_transport::{
    Destination, Inbound, Payload, TokioNetwork, Transport, TransportConfig, Transports,
    response_route,
};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = serve().await?;
    for transport in [Transport::Udp, Transport::Tcp] {
        ask(Destination::new(transport, address)).await?;
    }
    Ok(())
}

/// Starts the server on a free port.
async fn serve() -> Result<SocketAddr, Box<dyn Error>> {
    let (transports, mut connections) =
        Transports::new(Arc::new(TokioNetwork::new()), TransportConfig::default());
    let mut socket = transports
        .bind_udp_and_tcp("127.0.0.1:0".parse()?, 1)?
        .remove(0);
    let address = socket.local_addr();
    tokio::spawn(async move {
        loop {
            let inbound = tokio::select! {
                inbound = socket.recv() => inbound,
                Some(inbound) = connections.recv() => inbound,
            };
            if let Err(error) = answer(&transports, inbound).await {
                println!("server: {error}");
            }
        }
    });
    Ok(address)
}

async fn answer(transports: &Transports, inbound: Inbound) -> Result<(), Box<dyn Error>> {
    let Inbound { flow, payload, .. } = inbound;
    let (request, status) = match payload {
        Payload::Message(Message::Request(request)) if *request.method() == Method::Options => {
            (request, StatusCode::OK)
        }
        Payload::Message(Message::Request(request)) if *request.method() != Method::Ack => {
            (request, StatusCode::METHOD_NOT_ALLOWED)
        }
        Payload::Malformed(malformed) => match malformed.request {
            Some(request) => (request, malformed.status),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    println!(
        "server: {} {} from {flow}",
        request.method(),
        request.uri_text()
    );
    let response = Response::for_request(&request, status)
        .to_tag("server")
        .build()?
        .to_bytes();
    let route = response_route(&request, &flow);
    match (
        transports.try_send(&route.flow, response.clone()),
        route.fallback,
    ) {
        // The connection is gone: RFC 3261 §18.2.2 has us open one to the address in the Via.
        (Err(_), Some(destination)) => {
            Ok(transports.try_send(&transports.open(&destination).await?, response)?)
        }
        (sent, _) => Ok(sent?),
    }
}

/// Sends one OPTIONS and prints its answer.
async fn ask(destination: Destination) -> Result<(), Box<dyn Error>> {
    let (transports, mut connections) =
        Transports::new(Arc::new(TokioNetwork::new()), TransportConfig::default());
    let mut socket = transports.bind_udp("127.0.0.1:0".parse()?, 1)?.remove(0);
    let flow = transports.open(&destination).await?;
    let via = format!(
        "SIP/2.0/{} {};branch=z9hG4bKoptions;rport",
        flow.transport,
        transports.sent_by(&flow)
    );
    let request = Request::builder(Method::Options, &Uri::parse("sip:server@example.com")?)
        .from("<sip:client@example.com>;tag=client")
        .to("<sip:server@example.com>")
        .call_id("options")
        .cseq(1)
        .build()?
        .with_top_via(&via);
    transports.try_send(&flow, request.to_bytes())?;
    let inbound = tokio::select! {
        inbound = socket.recv() => inbound,
        Some(inbound) = connections.recv() => inbound,
    };
    match inbound.payload {
        Payload::Message(Message::Response(response)) => {
            println!(
                "client: {} {} over {}",
                response.status().as_u16(),
                response.reason(),
                inbound.flow
            );
        }
        other => println!("client: {other:?}"),
    }
    transports.shutdown().await;
    Ok(())
}
