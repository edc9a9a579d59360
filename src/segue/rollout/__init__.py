"""How a mode gets to where the application is deployed: an env file, a ConfigMap, a Deployment. Knows no store."""
