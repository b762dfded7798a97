// SPDX-License-Identifier: BSD-3-Clause
//! Guests whose pairs of netdevices are as on Hyper-V and as on KVM, and a neighbour on their network.

use super::guest::{self, Driver, Guest, bus_of};
use super::{Place, wait_for};

/// A guest with a bus named `vmbus` (`tests/guest/vmbus`): the netdevices on it are NetVSC to the driver, and the guest's
/// kernel enslaves VFs to them and sets them up, as hv_netvsc does.
pub struct Hyperv(pub Guest);

impl Hyperv {
    /// Boots it.
    pub fn boot(driver: Driver) -> Self {
        let guest = Guest::boot(driver);
        guest.shell("modprobe vmbus");
        Self(guest)
    }

    /// Waits until the netdevice of the VF at `address` is a slave of `netvsc` and up.
    pub fn expect_enslaved(&self, address: &str, netvsc: &str) {
        let show = format!("ip -o link show dev $(ls /sys/bus/pci/devices/{address}/net)");
        let slave = format!(" master {netvsc} ");
        wait_for(&format!("the VF at {address} is up, {slave}"), || {
            let text = self.0.shell(&show);
            (text.contains(&slave) && text.contains(",UP,")).then_some(())
        });
    }
}

impl Place for Hyperv {
    fn netvsc_appears(&mut self, name: &str, mac: &str) {
        let bus = self.0.free_bus();
        let host = self.0.plug_in(name, "virtio-net-pci", bus, mac, "");
        // Its name may be the wanted one.
        self.0.shell(&format!("ip link set {host} name host{bus}"));
        let found = self.0.shell(&format!("grep -lx {mac} /sys/bus/vmbus/devices/*/net/*/address"));
        let found = found.rsplit('/').nth(1).expect(&found);
        self.0.shell(&format!("ip link set {found} name {name} && ip link set {name} up"));
    }

    fn netvsc_goes(&mut self, name: &str) {
        self.0.netvsc_goes(name);
    }

    /// Names it as udev does: unless the guest's kernel has set it up by then, as one that is up keeps its name.
    fn vf_appears(&mut self, name: &str, address: &str, mac: &str) {
        let found = self.0.plug_in(name, "vmxnet3", bus_of(address), mac, "");
        let up = format!("[ -n \"$(ip link show up dev {found})\" ]");
        self.0.shell(&format!("busybox ip link set {found} name {name} || {up}"));
    }

    /// The guest's kernel sends by a VF before an application does. The VF's PMD has a packet socket on it.
    fn expect_driven(&self, address: &str) {
        let index = self.0.shell(&format!("cat /sys/bus/pci/devices/{address}/net/*/ifindex"));
        wait_for(&format!("an application drives the VF at {address}"), || {
            let sockets = self.0.shell("cat /proc/net/packet");
            sockets.lines().any(|line| line.split_whitespace().nth(4) == Some(index.trim())).then_some(())
        });
    }

    fn vf_goes(&mut self, name: &str, address: &str) {
        self.0.vf_goes(name, address);
    }

    fn vf_vanishes(&mut self, name: &str, address: &str) {
        self.0.vf_vanishes(name, address);
    }

    fn rename(&mut self, name: &str, new: &str, address: Option<&str>) {
        self.0.rename(name, new, address);
    }

    fn arguments(&self) -> &'static str {
        ""
    }
}

/// A guest on KVM, as far as its netdevices tell: a virtio NIC that is the standby of a failover pair. The guest's kernel
/// makes a master for it, and enslaves the pair's primary, a VF, to that as well.
pub struct Kvm(pub Guest);

impl Kvm {
    /// Boots it, with the pair's standby plugged in. Returns it with the names of master and standby; both are up.
    pub fn boot(driver: Driver, mac: &str) -> (Self, String, String) {
        let mut guest = Guest::boot(driver);
        let bus = guest.free_bus();
        guest.plug_in("pair", "virtio-net-pci", bus, mac, r#", "failover": true"#);
        let standby = wait_for("the standby has a master", || {
            let names = guest.shell("ls -d /sys/class/net/*/master 2>/dev/null || true");
            names.split('/').nth(4).map(str::to_owned)
        });
        let master = guest.shell(&format!("basename $(readlink /sys/class/net/{standby}/master)"));
        let master = master.trim_end().to_owned();
        guest.shell(&format!("ip link set {master} up"));
        (Self(guest), master, standby)
    }

    /// Plugs the primary in. QEMU wants it to have the same id each time.
    pub fn primary_appears(&mut self, address: &str, mac: &str) {
        self.0.plug_in("primary", "vmxnet3", bus_of(address), mac, r#", "failover_pair_id": "pair""#);
    }

    /// Pulls the primary out.
    pub fn primary_goes(&mut self) {
        self.0.unplug("primary");
    }
}

/// The neighbour's link address.
const LINK: [u8; 6] = [2, 0, 0, 0, 0, 0xfd];

/// Has somebody at the far end of the wire `name` answer ARP and ping for an IPv4 address, until the guest ends.
pub fn neighbour_answers(name: &str, address: [u8; 4]) {
    let tap = guest::here().expect("a guest").wire(name);
    let frames = tap.listen();
    std::thread::spawn(move || {
        for frame in frames {
            if let Some(answer) = answer(&frame, address) {
                tap.send(&answer);
            }
        }
    });
}

/// The answer to an ARP request or an echo request for `address` (RFC 826, RFC 792).
fn answer(frame: &[u8], address: [u8; 4]) -> Option<Vec<u8>> {
    let (kind, sender) = (frame.get(12..14)?, frame.get(6..12)?);
    let mut answer = [sender, &LINK, frame.get(12..)?].concat();
    match kind {
        [8, 6] if frame.get(20..22)? == [0, 1] && frame.get(38..42)? == address => {
            answer[21] = 2;
            answer[22..28].copy_from_slice(&LINK);
            answer[28..32].copy_from_slice(&address);
            answer[32..42].copy_from_slice(frame.get(22..32)?);
        }
        // An echo request in a packet without options becomes a reply: its checksum grows by what its type shrinks.
        [8, 0] if frame.get(14)? == &0x45 && frame.get(23)? == &1 && frame.get(30..34)? == address => {
            if frame.get(34..36)? != [8, 0] {
                return None;
            }
            answer[26..30].copy_from_slice(&address);
            answer[30..34].copy_from_slice(frame.get(26..30)?);
            answer[34] = 0;
            let (sum, carry) = u16::from_be_bytes([answer[36], answer[37]]).overflowing_add(0x0800);
            answer[36..38].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        }
        _ => return None,
    }
    Some(answer)
}
