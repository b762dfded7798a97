// SPDX-License-Identifier: BSD-3-Clause
//! Stories of what telemetry tells, by DPDK's own socket, and of whom it does not hold up.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::socket::MsgFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, recv, send, socket};
use serde_json::Value;
use stage::{App, MAC, Stage, exchange, expect_answer, ip, wait_for};

const FAILSAFE: &str = "net_failsafe_vsc0";
const FALLBACK: &str = "net_af_packet_vsc0";
const INSTANCE: &str = "net_vdev_netvsc0";
const VDEV: &str = "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet";
const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";

/// Where an application listens that shares its configuration with no other (`--no-shconf`).
const SOCKET: &str = "/var/run/dpdk/rte/dpdk_telemetry.v2";

/// The longest reply: `MAX_OUTPUT_LEN` in `lib/telemetry/telemetry.c`.
const REPLY_MAX_BYTES: usize = 16 << 10;

/// How many may ask at once: `MAX_CONNECTIONS` there.
const CLIENTS: usize = 10;

/// Somebody who asks.
struct Client(OwnedFd);

impl Client {
    fn new() -> Self {
        let kind = SockType::SeqPacket;
        let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(socket.as_raw_fd(), &UnixAddr::new(SOCKET).unwrap()).unwrap();
        let client = Self(socket);
        // It begins by saying who it is.
        assert!(client.receive()["pid"].is_u64());
        client
    }

    fn receive(&self) -> Value {
        let mut reply = vec![0; REPLY_MAX_BYTES];
        let size = recv(self.0.as_raw_fd(), &mut reply, MsgFlags::empty()).unwrap();
        serde_json::from_slice(&reply[..size]).unwrap()
    }

    /// Asks what the driver tells; null when it does not.
    fn ask(&self, command: &str, argument: &str) -> Value {
        let path = format!("/net_vdev_netvsc/{command}");
        let asked = if argument.is_empty() { path.clone() } else { format!("{path},{argument}") };
        send(self.0.as_raw_fd(), asked.as_bytes(), MsgFlags::empty()).unwrap();
        self.receive()[path].take()
    }

    fn verdict(&self) -> String {
        self.ask("why", "0")["verdict"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a verdict; `path_vf` is 1 with `vf` and with no other.
    fn expect(&self, verdict: &str) -> Value {
        wait_for(&format!("the verdict is {verdict}"), || (self.verdict() == verdict).then_some(()));
        let why = self.ask("why", "0");
        assert_eq!(why["path_vf"], u64::from(verdict == "vf"), "{why}");
        why
    }
}

/// An application with a port on eth1 whose telemetry is on.
fn start(more: &[&str]) -> (App, Client) {
    let app = App::start(&[&["--telemetry", VDEV], more].concat());
    (app, Client::new())
}

#[test]
fn a_port_tells_what_it_is_made_of_and_how_its_frames_go() {
    let mut stage = Stage::new();
    let index = stage.netvsc_appears("eth1", MAC);
    let (mut app, client) = start(&[]);
    assert_eq!(client.ask("list", ""), serde_json::json!([0]));
    for bad in ["", "1", "x", "-1", "0,0"] {
        assert_eq!(client.ask("why", bad), Value::Null, "{bad:?}");
    }
    let info = client.ask("info", "0");
    let want = [("instance", INSTANCE), ("failsafe", FAILSAFE), ("fallback", FALLBACK), ("netvsc", "eth1")];
    want.iter().for_each(|(name, want)| assert_eq!(info[name], **want, "{info}"));
    assert_eq!((&info["netvsc_mac"], &info["netvsc_ifindex"]), (&Value::from(MAC), &Value::from(index)));
    assert_eq!((&info["vf_present"], &info["rx_queues"]), (&Value::from(0), &Value::from(0)));

    client.expect("port_not_configured");
    app.ok(&format!("start {FAILSAFE}"));
    client.expect("no_vf");
    stage.vf_appears("vf0", ONE, MAC);
    let why = client.expect("vf");
    assert_eq!(why["text"], format!("frames go by the VF vf0 at {ONE}"));
    expect_answer("vf0p", MAC);
    let info = client.ask("info", "0");
    assert_eq!((&info["vf"], &info["vf_address"], &info["vf_paired_by"]), (&"vf0".into(), &ONE.into(), &"mac".into()));
    assert_eq!((&info["rx_queues"], &info["vf_up"]), (&Value::from(1), &Value::from(1)));
    stage.vf_goes("vf0", ONE);
    client.expect("no_vf");
    stage.vf_appears("vf0", TWO, MAC);
    client.expect("vf");

    let stats = client.ask("stats", "0");
    let counted = ["vf_came", "vf_went", "vf_posted", "vf_taken", "vf_hindered"].map(|name| stats[name].as_u64());
    assert_eq!(counted, [2, 1, 2, 2, 0].map(Some), "{stats}");
    assert!(stats["link_events"].as_u64() > Some(0) && stats["rescans"].as_u64() > Some(0), "{stats}");
    let events = client.ask("events", "0");
    let texts: Vec<&str> = events.as_object().unwrap().values().map(|text| text.as_str().unwrap()).collect();
    let what: Vec<&str> = texts.iter().map(|text| text.splitn(3, ' ').nth(2).unwrap()).collect();
    let came = |at| [format!("VF vf0 came at {at}"), format!("posted {at}"), format!("failsafe has {at}")];
    let want = [vec!["made".to_owned()], came(ONE).into(), vec![format!("VF vf0 at {ONE} went")], came(TWO).into()];
    assert_eq!(what, want.concat(), "{events}");
    app.ok(&format!("stop {FAILSAFE}"));
    client.expect("port_not_started");
    app.ok(&format!("close {FAILSAFE}"));
    wait_for("a port that is closed is no longer told of", || {
        (client.ask("list", "") == serde_json::json!([])).then_some(())
    });
    assert_eq!(client.ask("why", "0"), Value::Null);
}

#[test]
fn what_hinders_a_vf_is_told_with_what_to_do_in_the_words_of_the_log() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, client) = start(&[]);
    app.ok(&format!("start {FAILSAFE}"));
    stage.function_appears(ONE, "test_vf");
    stage.spoil(ONE, "refuse", "2");
    stage.vf_appears("vf0", ONE, MAC);
    let why = client.expect("vf_probe_failed");
    let (text, advice) = (why["text"].as_str().unwrap(), why["do"].as_str().unwrap());
    assert!(text.starts_with(&format!("VF vf0 at {ONE} cannot be attached")), "{why}");
    assert!(app.log().contains(&format!("{text}: {advice}")), "{why}: {}", app.log());
    client.expect("vf");
    stage.vf_goes("vf0", ONE);
    ip("link set eth1 down");
    client.expect("fallback_down");
    ip("link set eth1 up");
    client.expect("no_vf");
    stage.link_goes("eth1");
    client.expect("netvsc_gone");
}

#[test]
fn who_asks_is_answered_while_a_hot_plug_does_not_come_to_its_end() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, client) = start(&[]);
    app.ok(&format!("start {FAILSAFE}"));
    stage.function_appears(ONE, "test_vf");
    stage.spoil(ONE, "stuck", "");
    stage.vf_appears("vf0", ONE, MAC);
    // The interrupt thread is in the probe from now on, until it is let go.
    wait_for("it is in the probe", || app.log().contains("attaching").then_some(()));
    let mut answers = 0;
    for command in ["list", "info", "why", "stats", "events"].iter().cycle().take(1000) {
        answers += u32::from(client.ask(command, if *command == "list" { "" } else { "0" }) != Value::Null);
    }
    assert_eq!(answers, 1000);
    assert!(!app.has_port(ONE), "the probe has come to its end");
    stage.mend(ONE, "stuck");
    client.expect("vf");
}

#[test]
fn many_who_ask_as_fast_as_they_can_keep_no_vf_from_coming() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, client) = start(&[]);
    app.ok(&format!("start {FAILSAFE}"));
    let (ended, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 1..CLIENTS {
            scope.spawn(|| {
                let client = Client::new();
                // DPDK up to 26.03 parts a command with strtok (`client_handler`): of two clients at
                // once one may be misread, and gets no answer.
                while !ended.load(Ordering::Relaxed) {
                    asked.fetch_add(u64::from(client.ask("events", "0") != Value::Null), Ordering::Relaxed);
                }
            });
        }
        for address in [ONE, TWO].iter().cycle().take(10) {
            stage.vf_appears("vf0", address, MAC);
            client.expect("vf");
            expect_answer("vf0p", MAC);
            assert_eq!(exchange("vf0p", MAC, 20, &["vf0p"]), [20]);
            stage.vf_goes("vf0", address);
            client.expect("no_vf");
        }
        ended.store(true, Ordering::Relaxed);
    });
    println!("{} answers", asked.load(Ordering::Relaxed));
    assert!(asked.load(Ordering::Relaxed) > 0);
    assert_eq!(client.ask("stats", "0")["vf_taken"], 10);
}
