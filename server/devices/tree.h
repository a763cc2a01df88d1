/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balanced tree (treap) of nodes inside other objects, ordered by a pair of numbers. The heap keeps its blocks in
 * two of them. Not thread-safe; expected depth is logarithmic whatever the keys, since the priorities are random.
 */
#ifndef ORION_DEVICES_TREE_H
#define ORION_DEVICES_TREE_H

#include <stddef.h>
#include <stdint.h>

typedef struct orion_tree_node {
    struct orion_tree_node *left, *right;
    uint64_t major, minor;
    uint32_t priority;
} orion_tree_node_t;

typedef struct orion_tree {
    orion_tree_node_t *root;
    uint32_t seed;
} orion_tree_t;

static inline int orion_tree_before(uint64_t major, uint64_t minor, const orion_tree_node_t *node)
{
    return major < node->major || (major == node->major && minor < node->minor);
}

/* Splits into keys before (major, minor) and the rest. */
static inline void orion_tree_split(orion_tree_node_t *root, uint64_t major, uint64_t minor,
                                    orion_tree_node_t **before_p, orion_tree_node_t **rest_p)
{
    while (root) {
        if (orion_tree_before(major, minor, root) || (root->major == major && root->minor == minor)) {
            *rest_p = root;
            rest_p = &root->left;
            root = root->left;
        } else {
            *before_p = root;
            before_p = &root->right;
            root = root->right;
        }
    }
    *before_p = *rest_p = NULL;
}

static inline void orion_tree_insert(orion_tree_t *tree, orion_tree_node_t *node, uint64_t major, uint64_t minor)
{
    tree->seed ^= tree->seed << 13;
    tree->seed ^= tree->seed >> 17;
    tree->seed ^= tree->seed << 5;
    if (!tree->seed)
        tree->seed = 0x9e3779b9u;
    node->major = major;
    node->minor = minor;
    node->priority = tree->seed;
    orion_tree_node_t **at = &tree->root;
    while (*at && (*at)->priority >= node->priority)
        at = orion_tree_before(major, minor, *at) ? &(*at)->left : &(*at)->right;
    orion_tree_split(*at, major, minor, &node->left, &node->right);
    *at = node;
}

/* The node must be in the tree. */
static inline void orion_tree_remove(orion_tree_t *tree, orion_tree_node_t *node)
{
    orion_tree_node_t **at = &tree->root;
    while (*at != node)
        at = orion_tree_before(node->major, node->minor, *at) ? &(*at)->left : &(*at)->right;
    orion_tree_node_t *left = node->left, *right = node->right;
    while (left && right) {
        if (left->priority >= right->priority) {
            *at = left;
            at = &left->right;
            left = left->right;
        } else {
            *at = right;
            at = &right->left;
            right = right->left;
        }
    }
    *at = left ? left : right;
}

/* The smallest key that is not before (major, minor). */
static inline orion_tree_node_t *orion_tree_ceiling(const orion_tree_t *tree, uint64_t major, uint64_t minor)
{
    orion_tree_node_t *found = NULL;
    for (orion_tree_node_t *node = tree->root; node;) {
        if (node->major < major || (node->major == major && node->minor < minor)) {
            node = node->right;
        } else {
            found = node;
            node = node->left;
        }
    }
    return found;
}

/* The largest key whose major is not after `major`. */
static inline orion_tree_node_t *orion_tree_floor(const orion_tree_t *tree, uint64_t major)
{
    orion_tree_node_t *found = NULL;
    for (orion_tree_node_t *node = tree->root; node;) {
        if (node->major <= major) {
            found = node;
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return found;
}

#endif
