use std::convert::Infallible;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::telemetry::context::InContext;

#[tokio::test]
async fn the_instance_is_told_of_what_trace_an_upgrade_is_part() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for auth in [
        r#"{ kind = "trusted-proxy", user_header = "x-forwarded-user", password = "p" }"#,
        r#"{ kind = "password", password = "p" }"#,
    ] {
        let instance =
            format!("name = \"a\"\nurl = \"http://{address}\"\nmode = \"pool\"\nauth = {auth}");
        let instance: Instance = toml::from_str(&instance).unwrap();
        let (device, _) = Device::generate().unwrap();
        let dialer = Dialer::new(&instance, Arc::new(device)).unwrap();
        let service = service_fn(|()| async {
            context::set_trace(TRACE.parse().ok());
            let _ = dialer.connect(&Person::new("alice")).await;
            Ok::<_, Infallible>(())
        });
        let dialed = InContext::new(service).oneshot(());
        let read = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 2_048];
            let length = stream.read(&mut head).await.unwrap();
            String::from_utf8_lossy(&head[..length]).into_owned()
        };
        let (_, head) = tokio::join!(dialed, read);
        assert!(
            head.contains(&format!("traceparent: {TRACE}\r\n")),
            "{head}"
        );
    }
}
