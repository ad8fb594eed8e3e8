//! One file over one stream of QUIC, by quinn: what `rsecho push` is compared with.
//!
//! Flow control is opened wide, so that congestion control (CUBIC, quinn's default) and not a
//! window of the receiver decides; --max-mtu lets the path's MTU be searched beyond quinn's 1,452.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Endpoint, IdleTimeout, MtuDiscoveryConfig, ServerConfig};
use quinn::{EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const USAGE: &str = "\
usage: rsecho-bench-quinn receive ADDRESS:PORT FILE CERTIFICATE KEY [MAX_MTU]
       rsecho-bench-quinn send ADDRESS:PORT FILE CERTIFICATE [MAX_MTU]";
/// What the certificate is made out to.
const NAME: &str = "bench.test";
const WINDOW_BYTES: u32 = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;
const IDLE: Duration = Duration::from_secs(30);
/// As every peer that is compared gets: what net.core.rmem_max lets anyone have is asked for.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["receive", address, file, certificate, key] => {
            receive(address, file, certificate, key, None).await
        }
        ["receive", address, file, certificate, key, mtu] => {
            receive(address, file, certificate, key, Some(mtu.parse()?)).await
        }
        ["send", address, file, certificate] => send(address, file, certificate, None).await,
        ["send", address, file, certificate, mtu] => {
            send(address, file, certificate, Some(mtu.parse()?)).await
        }
        _ => Err(USAGE.into()),
    }
}

fn transport(max_mtu: Option<u16>) -> Result<Arc<TransportConfig>, Box<dyn Error>> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE)?));
    if let Some(most) = max_mtu {
        let mut search = MtuDiscoveryConfig::default();
        search.upper_bound(most);
        config.mtu_discovery_config(Some(search));
    }
    Ok(Arc::new(config))
}

fn endpoint(
    address: SocketAddr,
    server: Option<ServerConfig>,
    max_mtu: Option<u16>,
) -> Result<Endpoint, Box<dyn Error>> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        None,
    )?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    let mut config = EndpointConfig::default();
    if let Some(most) = max_mtu {
        config.max_udp_payload_size(most)?;
    }
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(config, server, socket.into(), runtime)?)
}

async fn receive(
    address: &str,
    file: &str,
    certificate: &str,
    key: &str,
    max_mtu: Option<u16>,
) -> Outcome {
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let mut config = ServerConfig::with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.transport_config(transport(max_mtu)?);
    let endpoint = endpoint(address.parse()?, Some(config), max_mtu)?;
    let connection = endpoint.accept().await.ok_or("nobody came")?.await?;
    let mut stream = connection.accept_uni().await?;
    let mut file = File::create(file).await?;
    while let Some(chunk) = stream.read_chunk(BUFFER_BYTES, true).await? {
        file.write_all(&chunk.bytes).await?;
    }
    file.flush().await?;
    connection.closed().await;
    endpoint.wait_idle().await;
    Ok(())
}

async fn send(address: &str, file: &str, certificate: &str, max_mtu: Option<u16>) -> Outcome {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots))?;
    config.transport_config(transport(max_mtu)?);
    let endpoint = endpoint(SocketAddr::from(([0, 0, 0, 0], 0)), None, max_mtu)?;
    let connection = endpoint
        .connect_with(config, address.parse()?, NAME)?
        .await?;
    let mut stream = connection.open_uni().await?;
    let mut file = File::open(file).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = file.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        stream.write_all(&buffer[..length]).await?;
    }
    stream.finish()?;
    stream.stopped().await?;
    connection.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
    Ok(())
}
