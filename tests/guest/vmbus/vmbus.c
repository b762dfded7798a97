// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/*
 * A bus named vmbus with NetVSC devices on it, for a guest that is not on Hyper-V.
 *
 * Each virtio NIC stands for what the host has at the other end: a NetVSC device comes and goes with it, whose
 * netdevice has its address, sends by it and receives what it receives. A PCI netdevice with the permanent address of a
 * NetVSC netdevice is its VF, and treated as hv_netvsc does: enslaved as it appears, set up a moment later, and then the
 * NetVSC netdevice sends by it and receives what it receives.
 *
 * A VF's PMD that shares its netdevice with the kernel (mlx4, mlx5, mana) has the NIC hand it the packets that it asks
 * for, and the kernel gets what is left. The stand-in for such a PMD has a packet socket on the netdevice; while it is
 * open the kernel gets nothing.
 */

#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>
#include <linux/workqueue.h>

/* As hv_netvsc: time for user space to rename a VF, which it may not do once that is up. */
#define TAKEOVER_DELAY (HZ / 10)

/* All that changes here does so under the RTNL lock. */
struct netvsc {
	struct device device;
	struct list_head list;
	struct net_device *netdev;
	struct net_device *lower;	/* The virtio NIC. */
	struct net_device *vf;
	struct net_device __rcu *path;	/* By which packets are sent: the VF from its being up on, else the NIC. */
	struct delayed_work takeover;
};

/* What netdev_priv() of a NetVSC netdevice points to. */
struct netvsc_link {
	struct netvsc *netvsc;
};

static LIST_HEAD(all);
static unsigned int count;

/* The bus. */

static ssize_t class_id_show(struct device *device, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "{f8615163-df3e-46c5-913f-f2d2f965ed0e}\n");
}
static DEVICE_ATTR_RO(class_id);

static struct attribute *vmbus_attrs[] = {
	&dev_attr_class_id.attr,
	NULL,
};
ATTRIBUTE_GROUPS(vmbus);

static struct bus_type vmbus = {
	.name = "vmbus",
	.dev_groups = vmbus_groups,
};

static struct netvsc *netvsc_of(const struct net_device *netdev)
{
	return ((struct netvsc_link *)netdev_priv(netdev))->netvsc;
}

/* Packets. */

static netdev_tx_t netvsc_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	dev_sw_netstats_tx_add(netdev, 1, skb->len);
	skb->dev = rcu_dereference_bh(netvsc_of(netdev)->path);
	dev_queue_xmit(skb);
	return NETDEV_TX_OK;
}

static rx_handler_result_t netvsc_receive(struct sk_buff **pskb)
{
	struct sk_buff *skb = skb_share_check(*pskb, GFP_ATOMIC);
	struct netvsc *netvsc;

	*pskb = skb;
	if (!skb)
		return RX_HANDLER_CONSUMED;
	netvsc = rcu_dereference(skb->dev->rx_handler_data);
	if (!netif_running(netvsc->netdev) ||
	    (skb->dev != netvsc->lower && !list_empty(&skb->dev->ptype_all))) {
		kfree_skb(skb);
		return RX_HANDLER_CONSUMED;
	}
	skb->dev = netvsc->netdev;
	dev_sw_netstats_rx_add(skb->dev, skb->len);
	return RX_HANDLER_ANOTHER;
}

/* The netdevice. */

static int netvsc_init(struct net_device *netdev)
{
	netdev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	return netdev->tstats ? 0 : -ENOMEM;
}

static void netvsc_uninit(struct net_device *netdev)
{
	free_percpu(netdev->tstats);
}

static int netvsc_open(struct net_device *netdev)
{
	struct netvsc *netvsc = netvsc_of(netdev);
	int err = dev_open(netvsc->lower, NULL);

	if (err)
		return err;
	if (netvsc->vf)
		dev_open(netvsc->vf, NULL);
	netif_start_queue(netdev);
	return 0;
}

static int netvsc_stop(struct net_device *netdev)
{
	struct netvsc *netvsc = netvsc_of(netdev);

	netif_stop_queue(netdev);
	if (netvsc->vf)
		dev_close(netvsc->vf);
	dev_close(netvsc->lower);
	return 0;
}

static const struct net_device_ops netvsc_ops = {
	.ndo_init = netvsc_init,
	.ndo_uninit = netvsc_uninit,
	.ndo_open = netvsc_open,
	.ndo_stop = netvsc_stop,
	.ndo_start_xmit = netvsc_xmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_get_stats64 = dev_get_tstats64,
};

/* The VF. */

static void vf_take_over(struct work_struct *work)
{
	struct netvsc *netvsc = container_of(to_delayed_work(work), struct netvsc, takeover);

	/* Whoever holds the lock may be waiting for this work to end. */
	if (!rtnl_trylock()) {
		schedule_delayed_work(&netvsc->takeover, 1);
		return;
	}
	if (netvsc->vf && netif_running(netvsc->netdev))
		dev_open(netvsc->vf, NULL);
	rtnl_unlock();
}

static void vf_join(struct netvsc *netvsc, struct net_device *vf)
{
	int err = netdev_rx_handler_register(vf, netvsc_receive, netvsc);

	if (err) {
		netdev_err(vf, "cannot become a VF: %d\n", err);
		return;
	}
	err = netdev_master_upper_dev_link(vf, netvsc->netdev, NULL, NULL, NULL);
	if (err) {
		netdev_rx_handler_unregister(vf);
		netdev_err(vf, "cannot be enslaved: %d\n", err);
		return;
	}
	vf->flags |= IFF_SLAVE;
	dev_hold(vf);
	netvsc->vf = vf;
	if (vf->flags & IFF_UP)
		rcu_assign_pointer(netvsc->path, vf);
	schedule_delayed_work(&netvsc->takeover, TAKEOVER_DELAY);
}

static void vf_leave(struct netvsc *netvsc)
{
	struct net_device *vf = netvsc->vf;

	if (!vf)
		return;
	cancel_delayed_work_sync(&netvsc->takeover);
	netvsc->vf = NULL;
	rcu_assign_pointer(netvsc->path, netvsc->lower);
	/* Waits for those who read the pointer. */
	netdev_rx_handler_unregister(vf);
	netdev_upper_dev_unlink(vf, netvsc->netdev);
	vf->flags &= ~IFF_SLAVE;
	dev_put(vf);
}

/* Coming and going. */

static bool is_on(const struct net_device *netdev, const char *bus)
{
	const struct device *parent = netdev->dev.parent;

	return parent && parent->bus && !strcmp(parent->bus->name, bus);
}

static bool is_vf_of(const struct net_device *vf, const struct netvsc *netvsc)
{
	return is_on(vf, "pci") && ether_addr_equal(vf->perm_addr, netvsc->netdev->perm_addr);
}

static void netvsc_free(struct device *device)
{
	kfree(container_of(device, struct netvsc, device));
}

static struct net_device *netdev_make(struct netvsc *netvsc)
{
	struct net_device *netdev = alloc_etherdev(sizeof(struct netvsc_link));

	if (!netdev)
		return NULL;
	((struct netvsc_link *)netdev_priv(netdev))->netvsc = netvsc;
	SET_NETDEV_DEV(netdev, &netvsc->device);
	netdev->netdev_ops = &netvsc_ops;
	netdev->needed_headroom = netvsc->lower->needed_headroom;
	netdev->needs_free_netdev = true;
	netdev->priv_flags |= IFF_NO_QUEUE;
	netdev->max_mtu = netvsc->lower->max_mtu;
	eth_hw_addr_inherit(netdev, netvsc->lower);
	return netdev;
}

static int netvsc_appear(struct net_device *lower)
{
	struct netvsc *netvsc = kzalloc(sizeof(*netvsc), GFP_KERNEL);
	struct net_device *vf;
	int err;

	if (!netvsc)
		return -ENOMEM;
	INIT_DELAYED_WORK(&netvsc->takeover, vf_take_over);
	netvsc->lower = lower;
	RCU_INIT_POINTER(netvsc->path, lower);
	netvsc->device.bus = &vmbus;
	netvsc->device.release = netvsc_free;
	/* Hyper-V names a device by the GUID of its instance. */
	dev_set_name(&netvsc->device, "f8b3781a-1e82-4818-a1c3-%012x", ++count);
	err = device_register(&netvsc->device);
	if (err) {
		put_device(&netvsc->device);
		return err;
	}
	netvsc->netdev = netdev_make(netvsc);
	if (!netvsc->netdev) {
		err = -ENOMEM;
		goto no_netdev;
	}
	err = netdev_rx_handler_register(lower, netvsc_receive, netvsc);
	if (err)
		goto no_handler;
	/* A new address of the NetVSC netdevice is not the lower one's. */
	dev_set_promiscuity(lower, 1);
	err = register_netdevice(netvsc->netdev);
	if (err)
		goto no_register;
	list_add_tail(&netvsc->list, &all);
	for_each_netdev(&init_net, vf) {
		if (is_vf_of(vf, netvsc) && !netvsc->vf)
			vf_join(netvsc, vf);
	}
	return 0;

no_register:
	dev_set_promiscuity(lower, -1);
	netdev_rx_handler_unregister(lower);
no_handler:
	free_netdev(netvsc->netdev);
no_netdev:
	device_unregister(&netvsc->device);
	return err;
}

static void netvsc_vanish(struct netvsc *netvsc)
{
	vf_leave(netvsc);
	list_del(&netvsc->list);
	unregister_netdevice(netvsc->netdev);
	dev_set_promiscuity(netvsc->lower, -1);
	netdev_rx_handler_unregister(netvsc->lower);
	device_unregister(&netvsc->device);
}

static int on_netdev(struct notifier_block *block, unsigned long event, void *info)
{
	struct net_device *netdev = netdev_notifier_info_to_dev(info);
	struct netvsc *netvsc, *next;
	int err = 0;

	if (event == NETDEV_REGISTER && is_on(netdev, "virtio"))
		err = netvsc_appear(netdev);
	list_for_each_entry_safe(netvsc, next, &all, list) {
		if (event == NETDEV_REGISTER && is_vf_of(netdev, netvsc) && !netvsc->vf)
			vf_join(netvsc, netdev);
		if (event == NETDEV_UP && netdev == netvsc->vf)
			rcu_assign_pointer(netvsc->path, netdev);
		if (event == NETDEV_GOING_DOWN && netdev == netvsc->vf)
			rcu_assign_pointer(netvsc->path, netvsc->lower);
		if (event == NETDEV_UNREGISTER && netdev == netvsc->vf)
			vf_leave(netvsc);
		if (event == NETDEV_UNREGISTER && netdev == netvsc->lower)
			netvsc_vanish(netvsc);
	}
	return notifier_from_errno(err);
}

static struct notifier_block notifier = {
	.notifier_call = on_netdev,
};

static int __init vmbus_init(void)
{
	int err = bus_register(&vmbus);

	if (err)
		return err;
	/* Tells of all netdevices that are there. */
	err = register_netdevice_notifier(&notifier);
	if (err)
		bus_unregister(&vmbus);
	return err;
}

static void __exit vmbus_exit(void)
{
	/* Tells of all netdevices as if they went. */
	unregister_netdevice_notifier(&notifier);
	bus_unregister(&vmbus);
}

module_init(vmbus_init);
module_exit(vmbus_exit);
MODULE_DESCRIPTION("A bus named vmbus with NetVSC devices, for tests");
MODULE_LICENSE("Dual BSD/GPL");
