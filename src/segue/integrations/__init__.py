"""Drop-in vector stores for LangChain and LlamaIndex; each needs its framework: extras `langchain`, `llama-index`."""
