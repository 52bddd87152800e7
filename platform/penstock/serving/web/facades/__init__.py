"""Other ways to the same models: server-sent events and a camera's frames, the chat protocol of OpenAI, the
Open Inference Protocol. Each only translates; what a request may do is decided in `front`."""
