# SPDX-License-Identifier: Apache-2.0
# Memory that messages are in: blocks and held memory of an arena, and what a message on its way out is made of.

cdef class _Block:
    """Writable memory in a channel's arena; arrays of `Channel.empty` are views of one."""

    cdef orion_block_t *block
    cdef Py_ssize_t bytes
    cdef Channel channel

    def __dealloc__(self):
        orion_block_free(self.block)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, orion_block_data(self.block), self.bytes, 0, flags)


cdef class _Held:
    """Read-only memory of the other side's arena (or assembled from pieces), given back when the last view goes."""

    cdef orion_held_t *held
    cdef const void *data
    cdef Py_ssize_t bytes

    def __dealloc__(self):
        orion_held_release(self.held)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, <void *>self.data, self.bytes, 1, flags)


cdef _Held _hold(orion_message_t *message):
    """The message's bulk, which outlives it."""
    cdef _Held held = _Held.__new__(_Held)
    held.data = message.bulk.data
    held.bytes = message.bulk.bytes
    if orion_message_hold(message, &held.held) != ORION_OK:
        orion_message_release(message)
        raise MemoryError("no memory for a view of a message")
    return held


cdef object _owned(PyObject *reference):
    """The object; its reference becomes ours."""
    result = <object>reference
    Py_DECREF(result)
    return result


@cython.final
@cython.freelist(16)
cdef class _Parcel:
    """A message on its way out: what the C core takes of it, and what keeps that in place meanwhile."""

    cdef uint32_t tag
    cdef const void *data   # all of it, or the head that goes before the bulk
    cdef size_t bytes
    cdef orion_bulk_t *bulk # NULL, or &rest
    cdef orion_bulk_t rest
    cdef object head, block # who has data; who has the bulk, if it is in the arena
    cdef Py_buffer view     # of whose memory data or the bulk is
    cdef bint has_view

    def __dealloc__(self):
        if self.has_view:
            PyBuffer_Release(&self.view)

    cdef int look_at(self, object exporter, int flags) except -1:
        PyObject_GetBuffer(exporter, &self.view, flags)
        self.has_view = True
        return 0

    cdef void set_head(self, uint32_t tag, bytes head) noexcept:
        self.tag = tag
        self.head = head
        self.data = PyBytes_AS_STRING(head)
        self.bytes = PyBytes_GET_SIZE(head)

    cdef void set_bulk(self, const void *data, size_t bytes, object block) noexcept:
        self.rest.data = data
        self.rest.bytes = bytes
        self.rest.block = (<_Block>block).block if block is not None else NULL
        self.block = block
        self.bulk = &self.rest

    cdef bint is_copied_long(self) noexcept:
        return self.bytes > ORION_CHANNEL_INLINE or (self.bulk != NULL and self.rest.block == NULL)


cdef _Parcel _headed(uint32_t tag, bytes head):
    """A message of these bytes, or the beginning of one."""
    cdef _Parcel parcel = _Parcel.__new__(_Parcel)
    parcel.set_head(tag, head)
    return parcel


cdef _Parcel _pack(Channel channel, object data):
    """Of bytes, an array, or any other contiguous buffer."""
    cdef _Parcel parcel
    if type(data) is bytes:
        return _headed(TAG_BYTES, data)
    if _messages.is_array(data):
        return _pack_array(channel, data)
    parcel = _Parcel.__new__(_Parcel)
    parcel.tag = TAG_BYTES
    parcel.look_at(data, PyBUF_SIMPLE)
    parcel.data = parcel.view.buf
    parcel.bytes = parcel.view.len
    return parcel


cdef _Parcel _pack_array(Channel channel, object array):
    """Of anything that `send_array` takes: its bulk is where the array is, which may be a block of the channel's."""
    cdef _Parcel parcel
    cdef bytes head
    cdef object block = None
    tag, head, contiguous = _messages.array_out(channel, array)
    parcel = _headed(tag, head)
    if contiguous is None:
        return parcel
    if contiguous.base is not None:
        block = _messages.base_of(contiguous)
    if type(block) is not _Block or (<_Block>block).channel is not channel:
        block = None
    parcel.look_at(_messages.raw(contiguous), PyBUF_ANY_CONTIGUOUS)
    if block is None and PyBytes_GET_SIZE(head) + parcel.view.len <= ORION_CHANNEL_INLINE:
        parcel.set_head(tag, head + PyBytes_FromStringAndSize(<char *>parcel.view.buf, parcel.view.len))
    else:
        parcel.set_bulk(parcel.view.buf, parcel.view.len, block)
    return parcel


cdef _Parcel _pack_object(Channel channel, object value):
    """Of any object that pickle can: large buffers go beside the pickle, in a block if the arena has room now."""
    cdef list beside = []
    cdef _Parcel parcel
    cdef _Block block
    pickled = _dumps(value, protocol=5, buffer_callback=beside.append)
    if not beside:
        return _headed(TAG_PICKLE, pickled)
    pickled, buffers = _messages.pickled(value, pickled, beside)
    if not buffers:
        return _headed(TAG_PICKLE, pickled)
    head, parts, places, total = _messages.object_out(pickled, buffers)
    if len(head) + total <= ORION_CHANNEL_INLINE:
        return _headed(TAG_OBJECT, head + _messages.join(parts, places, total))
    parcel = _headed(TAG_OBJECT, head)
    block = _gather(channel, parts, places, total)
    if block is not None:
        parcel.set_bulk(orion_block_data(block.block), block.bytes, block)
    else:
        parcel.look_at(_messages.join(parts, places, total), PyBUF_SIMPLE)
        parcel.set_bulk(parcel.view.buf, parcel.view.len, None)
    return parcel


cdef _Block _gather(Channel channel, list parts, list places, Py_ssize_t total):
    """A block that holds the parts at their places, or None where the arena has no room now."""
    cdef _Block block = channel._block(total, 0)
    cdef Py_buffer view
    cdef Py_ssize_t at
    if block is None:
        return None
    for part, place in zip(parts, places):
        at = place
        PyObject_GetBuffer(part, &view, PyBUF_SIMPLE)
        memcpy(<char *>orion_block_data(block.block) + at, view.buf, view.len)
        PyBuffer_Release(&view)
    return block
